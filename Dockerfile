# `cargo xtask image` packs the same image without a container daemon. Here it
# only builds the static program:
#
#   cargo xtask image
#   docker build --file Dockerfile --tag nodedns:0.1.0 target/image
FROM scratch
COPY nodedns /usr/bin/nodedns
ENTRYPOINT ["/usr/bin/nodedns"]
CMD ["run"]
