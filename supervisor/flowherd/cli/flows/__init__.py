"""`flowherd register`, and the document that it sends."""
