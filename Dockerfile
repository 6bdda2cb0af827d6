# SPDX-License-Identifier: MIT
#
# The broker and the command `holdfast` in a small image, built from this checkout: docker build -t holdfast .
#
#   docker run -d -v /run/holdfast:/run/holdfast --shm-size 4g holdfast
#
# Clients need the directory of the socket and nothing else: what they map comes over it.
FROM debian:bookworm-slim AS build
COPY scripts/setup-debian /source/scripts/setup-debian
RUN /source/scripts/setup-debian build
COPY . /source
WORKDIR /source
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset release -DHOLDFAST_BUILD_TESTS=OFF -DHOLDFAST_BUILD_BENCH=OFF -DCMAKE_INSTALL_PREFIX=/usr \
 && cmake --build --preset release \
 && DESTDIR=/installed cmake --install build/release --strip

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libspdlog1.10 libsqlite3-0 libssl3 libsystemd0 libtomlplusplus3 libxxhash0 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 holdfast \
 && useradd --uid 10001 --gid holdfast --no-create-home --home-dir /run/holdfast --shell /usr/sbin/nologin holdfast \
 && install -d -o holdfast -g holdfast -m 0755 /run/holdfast
COPY --from=build /installed /
USER holdfast
VOLUME /run/holdfast
ENV HOLDFAST_SOCKET=/run/holdfast/default.sock
CMD ["holdfastd"]
