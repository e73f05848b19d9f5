from models.contract import run

run("models.minilm.task")
