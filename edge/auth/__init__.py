"""Authentication, authorisation and limits of callers."""
