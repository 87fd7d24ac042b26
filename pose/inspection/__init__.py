"""What a data set is like before anyone trains on it: sizes, joints, sides, duplicates, and the page of them."""
