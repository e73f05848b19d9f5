from models.contract import run

run("models.gpt2.task")
