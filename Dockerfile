# Headway in a container. The target `web` is the HTTP service, `worker` runs the jobs:
#   docker build --target web -t headway-web . && docker build --target worker -t headway-worker .
# Both need REDIS_URL, and write below /data and /tmp alone. docs/containers.md has the rest.
FROM python:3.11-slim-bookworm AS build
WORKDIR /opt/headway
COPY requirements.txt ./
RUN python -m venv .venv && .venv/bin/python -m pip install --no-cache-dir -r requirements.txt "pyjwt[crypto]==2.15.1"
COPY headway/ headway/
COPY service/ service/
COPY worker/ worker/
COPY web/ web/
COPY LICENSE ./
RUN .venv/bin/python -m compileall -q headway service worker

FROM python:3.11-slim-bookworm AS base
COPY --from=build /opt/headway /opt/headway
RUN install -d -o 10001 -g 10001 -m 0700 /data
WORKDIR /opt/headway
ENV PATH=/opt/headway/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Any address: so it needs AUTH, and says so.
ENV DATA_DIR=/data HOST=0.0.0.0 PORT=8000
USER 10001:10001
VOLUME /data

FROM base AS worker
# No port: a worker that is stuck loses its jobs' leases, and they start elsewhere.
CMD ["python", "-m", "worker"]

FROM base AS web
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["python", "-m", "service", "web"]
