-- The Iceberg catalog of docker/local.env, beside Airflow's own database.
CREATE DATABASE catalog;
