"""What writes the tables of the documents that are not about speed: ``python -m studies`` writes all of them again."""
