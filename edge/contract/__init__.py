"""What the edge answers, as data, and the documents made of it."""
