"""llama.cpp's own server out of the wheel ``xllamacpp``, until it is killed: ``llama_server.py FILE PORT CONTEXT``."""

import sys
import threading

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params.hostnames = ["127.0.0.1"]
params.n_parallel = 1
params.endpoint_metrics = params.use_jinja = True
server = xllamacpp.Server(params)
threading.Event().wait()
