"""Public reports of other libraries' users, each tried on innerloop."""
