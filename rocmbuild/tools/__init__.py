"""One module per outside program or file format."""
