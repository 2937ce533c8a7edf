# masklet serve, as a user without rights.
#   docker build -t masklet .
#   docker run -e MASKLET_TOKEN -p 127.0.0.1:8700:8700 -v "$PWD/videos:/data:ro" -v masklet_projects:/projects masklet
# With CUDA (PyPI's build of PyTorch brings its libraries; run with --gpus all):
#   docker build --build-arg TORCH_INDEX=https://pypi.org/simple -t masklet:cuda .
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/masklet/bin:$PATH
WORKDIR /build
RUN python -m venv /opt/masklet
COPY constraints.txt ./
RUN pip install "torch==$(sed -n 's/^torch==//p' constraints.txt | head -1)" --index-url "$TORCH_INDEX"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install -c constraints.txt '.[app]'

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home masklet \
    && mkdir /data /projects \
    && chown masklet /projects
COPY --from=build /opt/masklet /opt/masklet
ENV PATH=/opt/masklet/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/masklet
VOLUME /projects
EXPOSE 8700
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(web.Request('http://127.0.0.1:8700/api/health', headers={'Authorization': 'Bearer ' + os.environ['MASKLET_TOKEN']}), timeout=4)"]
# Without MASKLET_TOKEN it ends at once and says so: other machines can reach it.
ENTRYPOINT ["masklet", "serve", "/data", "--project", "/projects", "--host", "0.0.0.0"]
