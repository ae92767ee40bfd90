# The three programs in a small image, for the processor:
#
#     docker build -t run-lm .
#     docker run --rm -v "$PWD:/work" run-lm run_mlm --model_name_or_path … --train_file train.txt … --output_dir results/mine
#
# `docker stop` sends SIGTERM, on which a run saves; give it the time: `docker stop --time 60`.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -qy --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /source/target/release/run_mlm /source/target/release/run_clm /source/target/release/run_plm /usr/local/bin/
# Models, data sets and tokenized text are kept where a volume can be mounted.
ENV HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
WORKDIR /work
CMD ["run_mlm", "--help"]
