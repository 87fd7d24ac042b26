_base_ = "../../_base_/lsp_small.py"
model = dict(backbone=dict(conv=dict(type="dcd", reduction=8)), head=dict(conv=dict(type="dcd", reduction=8)))
