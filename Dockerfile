# One image for every process of the Procfile: `docker build -t sluice .`
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
# What Sluice needs, before Sluice itself: a change of the code does not fetch it again.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" \
        > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
COPY . .
RUN pip install --no-deps --editable . && python -m compileall -q /app/ingest /app/tasks

FROM python:3.11.13-slim-bookworm
RUN groupadd --gid 10001 sluice && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sluice
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SLUICE_ENV_FILE=/dev/null \
    HEALTH_URL=http://127.0.0.1:9000/healthz
WORKDIR /app
USER 10001:10001
# Each service sets HEALTH_URL to the port of its process.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 CMD ["python", "-m", "compose.healthcheck"]
CMD ["sluice", "--help"]
