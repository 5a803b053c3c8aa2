"""Runs llama.cpp's server on a free loopback port: serve.py FILE.gguf, in an environment with xllamacpp.

Prints its address once it listens, and exits when stdin closes.
"""

import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
parameters.n_ctx = 4096
parameters.n_parallel = 1
parameters.n_gpu_layers = 0
parameters.cpuparams.n_threads = 1
parameters.use_jinja = True
sampling = parameters.sampling
sampling.seed, sampling.temp, sampling.top_k, sampling.top_p, sampling.min_p = 1, 1.0, 0, 1.0, 0.0
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
