# A server for one trained model, on the CPU:
#   docker build -t sk-ulmfit .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/mail.model:/model:ro" sk-ulmfit

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md constraints.txt ./
COPY LICENSES LICENSES
COPY sk_ulmfit sk_ulmfit
# The CPU build of torch is first; the one of the package index brings gigabytes of GPU libraries.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -c constraints.txt torch --index-url https://download.pytorch.org/whl/cpu \
    && /venv/bin/pip install --no-cache-dir -c constraints.txt ".[serve]"

FROM python:3.11-slim
RUN useradd --system --no-create-home --uid 10001 server
COPY --from=build /venv /venv
USER 10001
ENV PYTHONUNBUFFERED=1
# Threads share two pools of memory, so that less of it lies unused.
ENV MALLOC_ARENA_MAX=2
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["/venv/bin/python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["/venv/bin/sk-ulmfit", "serve"]
CMD ["/model", "--host", "0.0.0.0", "--port", "8000"]
