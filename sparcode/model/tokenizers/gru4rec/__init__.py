"""GRU4Rec (Hidasi et al. 2016): layers (torch), arrays (served), onnx (exported)."""
