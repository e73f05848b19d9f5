from models.contract import run

run("models.rapidocr.task")
