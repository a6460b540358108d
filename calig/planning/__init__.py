"""What an audit will take: a pilot of a few documents, and what follows from it for the corpus."""
