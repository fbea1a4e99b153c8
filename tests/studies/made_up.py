"""Results of jobs without training."""


def made_up_runs(jobs, accuracy):
    """Results of all jobs; `accuracy` of a job returns its accuracy."""
    return [
        job
        | {"accuracy": accuracy(job), "corrupted": {"noise 0.1": accuracy(job) - 10}}
        | {"steps": 8, "student_points": 400, "teacher_points": 400}
        for job in jobs
    ]
