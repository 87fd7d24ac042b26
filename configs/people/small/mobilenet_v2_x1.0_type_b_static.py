_base_ = "../../_base_/people_small.py"
