"""What happens to an image on the cluster: the library that both Spark jobs are zipped with."""
