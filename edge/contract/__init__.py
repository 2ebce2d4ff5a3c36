"""The operations of the edge as data, and the documents made of them."""
