"""The thin front: sockets and HTTP in, appends to the log and reads of read models out."""
