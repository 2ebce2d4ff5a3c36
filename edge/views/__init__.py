"""What is read: sessions, transcripts, health."""
