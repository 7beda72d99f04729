"""The admission of submitted records: checks, reruns and additions."""
