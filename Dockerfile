# The service in a container: a CPU, no root, an export mounted at /model or copied there.
#
#     frozenbert export --model artifacts/reviews --out artifacts/reviews-runtime
#     docker build -t frozenbert .
#     docker run --rm --read-only --tmpfs /tmp --stop-timeout 65 -p 127.0.0.1:8000:8000 -e FROZENBERT_TOKEN \
#         -v "$PWD/artifacts/reviews-runtime:/model:ro" frozenbert
FROM python:3.11-slim AS build

# `all` serves models that are not exported, too, with torch: then name torch's CPU build, as pip
# by itself finds the one with gigabytes of CUDA, by
#     --build-arg EXTRAS=all --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG EXTRAS=runtime,serve
ARG PIP_EXTRA_INDEX_URL=

WORKDIR /src
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY frozenbert ./frozenbert
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        --constraint requirements.txt ".[$EXTRAS]"

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/tmp USER=frozenbert
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000); c.request('GET', '/healthz'); assert c.getresponse().status == 200"]
ENTRYPOINT ["frozenbert", "serve", "--host", "0.0.0.0", "--offline"]
CMD ["--model", "/model"]
