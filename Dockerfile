# redecode with its server, for x86-64 and ARM64 on the CPU: docs/install.md has the commands.
FROM python:3.12-slim AS build
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim
COPY requirements/server.txt /tmp/server.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r /tmp/server.txt \
    && pip install --no-cache-dir --no-deps /tmp/wheels/*.whl \
    && rm -r /tmp/server.txt /tmp/wheels \
    && useradd --create-home redecode
USER redecode
WORKDIR /pictures
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["redecode"]
CMD ["serve", "--host", "0.0.0.0"]
