"""The mean-pooled DNN (Covington et al. 2016): layers (torch), arrays (served), onnx (exported)."""
