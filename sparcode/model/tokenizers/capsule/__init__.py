"""Capsule routing (MIND, ComiRec-DR): layers (torch), arrays (served), onnx (exported)."""
