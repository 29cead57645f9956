"""The polls application: questions, votes, and the work that is done in the background."""
