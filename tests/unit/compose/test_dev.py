"""Development in containers: what runs once before the site."""

from dataclasses import replace
from pathlib import Path

from deploy.compose import dev
from deploy.docker.stack import DEV
from deploy.project.assets import Assets
from tests.unit.stacks import stack


def test_a_front_end_is_built_in_its_image_where_it_never_was(tmp_path: Path) -> None:
    this = stack(DEV)
    assert list(dev.first(this)) == ["release"]
    front = Assets("npm run build", "site/dist", "node:22")
    this = replace(this, project=replace(this.project, root=tmp_path, assets=front))
    building = dev.first(this)["assets"].argv
    assert list(building[:3]) == ["docker", "run", "--rm"]
    assert f"{tmp_path}:/src" in building
    (tmp_path / "site" / "dist").mkdir(parents=True)
    assert list(dev.first(this)) == ["release"]
