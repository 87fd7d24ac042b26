_base_ = "../_base_/people.py"
