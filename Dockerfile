# syntax=docker/dockerfile:1
# One image for code location, webserver and daemon: docker build -t ml-assets .
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE ./
COPY ml_assets ml_assets
# uv: pip tries versions of boto3 for minutes, for s3fs's sake.  Whoever runs it cannot write bytecode.
RUN python -m venv /opt/ml_assets \
 && python -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir "uv>=0.9,<1" \
 && /opt/uv/bin/uv pip install --no-cache --compile-bytecode --python /opt/ml_assets/bin/python \
      ".[s3,onnx,postgres,kubernetes]"

FROM python:3.11.13-slim-bookworm
# LightGBM and scikit-learn take OpenMP from the system
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home ml_assets \
 && install --directory --owner ml_assets /project /state
COPY --from=build /opt/ml_assets /opt/ml_assets
COPY --chown=ml_assets workspace.yaml pyproject.toml /project/
COPY --chown=ml_assets ml_assets/defs /project/ml_assets/defs
COPY --chown=ml_assets deploy/dagster.yaml /state/dagster/dagster.yaml
ENV PATH=/opt/ml_assets/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ML_ASSETS_HOME=/state \
    DAGSTER_HOME=/state/dagster
USER ml_assets
WORKDIR /project
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s \
  CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "4000", "-m", "ml_assets.definitions"]
