# The one image of docker-compose.yaml: Airflow with the DAGs, and the local cloud.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}

ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app/plugins:/app \
    AIRFLOW_HOME=/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/app/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/app/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    FRUITS_CACHE_FOLDER=/airflow/cache \
    KERAS_HOME=/airflow/cache/keras
WORKDIR /app

# What changes rarely comes first, so that a changed DAG builds in seconds.
COPY requirements.txt requirements-local.txt ./
RUN python3 -m venv /venv \
    && pip install --no-cache-dir --require-hashes -r requirements.txt -r requirements-local.txt

# Volumes take their owner from the folder that they cover.
RUN useradd --create-home --uid 1000 fruits \
    && install --directory --owner=fruits --group=fruits /airflow /data
COPY . .
# Puts a wrapper around the Java of a wheel, into /venv, where only root may write.
RUN python -c "from local_cloud.java import java_home; print(java_home())"

USER fruits
