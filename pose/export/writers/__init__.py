"""Writers of exported files, one short module a format: a network of one image in, the files of its runtime out."""
