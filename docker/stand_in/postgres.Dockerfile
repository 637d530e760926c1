# PostgreSQL as docker-compose.yaml expects it of the official image.
FROM fruits-stand-in-python:3.11
RUN apt-get update && apt-get install --yes --no-install-recommends gosu postgresql
ENV PATH=$PATH:/usr/lib/postgresql/15/bin PGDATA=/var/lib/postgresql/data
COPY postgres_entrypoint.sh /usr/local/bin/
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres_entrypoint.sh"]
