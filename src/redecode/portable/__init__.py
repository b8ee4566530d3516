"""The method outside Python: an ONNX graph of the whole method, and a web page that runs it in the browser, without a server."""
