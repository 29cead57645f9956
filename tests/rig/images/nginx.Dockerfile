# nginx as Debian's next release has it (the project needs 1.27.3 or newer), with the official image's user and folders.
FROM debian:trixie-slim
RUN groupadd -r -g 101 nginx && useradd -r -g nginx -u 101 -d /nonexistent -s /bin/false nginx \
    && sed -i 's/trixie/sid/g' /etc/apt/sources.list \
    && apt-get update -qq -o Acquire::Check-Valid-Until=false \
    && apt-get install -qq --no-install-recommends nginx curl >/dev/null \
    && rm -rf /var/lib/apt/lists/* /etc/nginx/modules-enabled/* \
    && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
EXPOSE 80
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
