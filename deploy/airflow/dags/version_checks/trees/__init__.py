"""Tree ensembles of scikit-learn, LightGBM and XGBoost as ONNX nodes that compare exactly what the library compares."""
