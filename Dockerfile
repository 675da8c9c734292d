# The image of sciflux workers and commands: a build stage, and a slim base with an ordinary user. oneDNN is opened at
# run time, so only the run stage has it.
#
#   docker build -t sciflux .
#   docker run --rm sciflux doctor

FROM golang:1.26.8-bookworm AS build
WORKDIR /src
# The modules alone first: they change seldom, and their layer is reused.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=1 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/sciflux ./cmd/sciflux

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libdnnl2 tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 sciflux \
 && useradd --uid 10001 --gid sciflux --create-home --home-dir /home/sciflux --shell /usr/sbin/nologin sciflux \
 && install -d -o sciflux -g sciflux /var/lib/sciflux
COPY --from=build /out/sciflux /usr/local/bin/sciflux
USER sciflux:sciflux
WORKDIR /home/sciflux
ENV SCIFLUX_STATE_DIR=/var/lib/sciflux
VOLUME /var/lib/sciflux
# A worker that is told to stop finishes its step and commits a checkpoint first.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/sciflux"]
CMD ["help"]
