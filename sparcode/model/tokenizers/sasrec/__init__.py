"""SASRec (Kang and McAuley 2018): layers (torch), arrays (served), onnx (exported)."""
