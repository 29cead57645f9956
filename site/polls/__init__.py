"""The polls application: questions, votes, and background tasks."""
