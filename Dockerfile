# The worker's image: an environment of its own, since the program owns the import names `agents`, `tables`, `topology` and
# `pipeline` (DECISIONS.md, decision 1). Built in one stage, run in another, so that no build tool is shipped.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_CONSTRAINT=/build/constraints.txt
RUN python -m venv /opt/aiops
# What changes seldom first: the packages, each checked against its hash.
COPY requirements.lock constraints.txt ./
RUN /opt/aiops/bin/pip install --require-hashes --only-binary :all: --requirement requirements.lock
COPY pyproject.toml ./
COPY topology topology
COPY tables tables
COPY agents agents
COPY pipeline pipeline
RUN /opt/aiops/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
# Its data outlives the container in a volume, which takes over this folder's owner.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/aiops --shell /usr/sbin/nologin aiops \
    && install --directory --owner aiops --group aiops --mode 0750 /var/lib/aiops
COPY --from=build /opt/aiops /opt/aiops
ENV PATH=/opt/aiops/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 AIOPS_STATE_DIR=/var/lib/aiops
USER 10001:10001
WORKDIR /var/lib/aiops
VOLUME /var/lib/aiops
CMD ["aiops", "worker"]
