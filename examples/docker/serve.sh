#!/bin/sh
# serve PORT: the files of the working folder over HTTP, with what the image has for that.
port=${1:-8080}
if command -v nginx >/dev/null; then
  exec nginx -g "daemon off;"
elif command -v httpd >/dev/null; then
  exec httpd -f -p "$port" -h /srv/www
else
  exec busybox httpd -f -p "$port" -h /srv/www
fi
