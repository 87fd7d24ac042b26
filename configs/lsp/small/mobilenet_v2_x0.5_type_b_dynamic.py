_base_ = "../../_base_/lsp_small.py"
model = dict(backbone=dict(conv=dict(type="dynamic")), head=dict(conv=dict(type="dynamic")))
