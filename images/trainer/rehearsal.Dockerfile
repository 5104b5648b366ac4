# The night's trainer for machines without a GPU: the Spark's training stack on CPU PyTorch.
ARG TORCH_IMAGE
FROM ${TORCH_IMAGE}
COPY requirements.txt constraints.txt /opt/build/
RUN --mount=type=secret,id=extra_ca --mount=type=bind,from=wheelhouse,target=/wheelhouse \
    --mount=type=cache,target=/root/.cache/uv \
    /opt/build/install-packages -r /opt/build/requirements.txt -c /opt/build/constraints.txt
ENV HF_HUB_OFFLINE=1 DO_NOT_TRACK=1 TOKENIZERS_PARALLELISM=false PYTHONPATH=/opt
WORKDIR /opt
ENTRYPOINT ["python3", "-m"]
