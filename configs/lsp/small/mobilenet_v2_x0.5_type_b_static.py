_base_ = "../../_base_/lsp_small.py"
