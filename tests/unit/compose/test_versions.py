"""Which PostgreSQL can have the data that is there."""

import pytest

from deploy.compose.versions import major, refusal


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("postgres:17.12", 17),
        ("postgres:18", 18),
        ("docker.io/library/postgres:16.3-alpine3.20", 16),
        ("registry.example.org:5000/postgres:15", 15),
        ("postgis/postgis:17-3.5", 17),
        ("timescale/timescaledb:2.17.2-pg16", 16),
        ("pgvector/pgvector:0.8.0-pg17", 17),
        ("postgres:17.12@sha256:0000", 17),
        ("postgres", 0),
        ("postgres:latest", 0),
        ("registry.example.org:5000/postgres", 0),
    ],
)
def test_the_tag_of_an_image_names_its_major_version(image: str, version: int) -> None:
    assert major(image) == version


def test_a_server_is_refused_the_data_of_another_major_version_only() -> None:
    said = refusal("postgres:18.1", "17", "shop_postgres")
    assert said.startswith("postgres:18.1 does not read the data of PostgreSQL 17 in the volume shop_postgres: name an")
    assert refusal("postgres:17.13", "17", "shop_postgres") == ""
    assert refusal("postgres:latest", "17", "shop_postgres") == "", "what is not known is tried"
    assert refusal("postgres:18.1", "", "shop_postgres") == "", "a volume without data"
