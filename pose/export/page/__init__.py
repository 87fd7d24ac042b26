"""What the exported web page is made of."""
