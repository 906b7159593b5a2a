"""Self-attentive interests (Lin et al. 2017, ComiRec-SA): layers (torch), arrays (served), onnx (exported)."""
